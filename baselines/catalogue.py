"""The catalogue: every system of the bench, one entry per system or family.

To add a system, add its file and an entry here. `systems.registry` reads the catalogue and explains the fields. The
colours, marks and places in the legend stand here. Colours of systems in the same figure can be told apart in grey and
by colour-blind readers; the tests of `bench.report.system_looks` measure how far apart they are.
"""

from __future__ import annotations

from baselines.digital import names
from systems.registry import Mark, register

RED, NAVY, GREEN, MAGENTA, BLUE = "#D2271F", "#183D85", "#076348", "#CC53C9", "#268CC8"
BLACK, AMBER, BROWN, GREY = "#000000", "#FCA218", "#511B00", "#9D9D9D"

FLOOR = "linear"  # learns only a covariance; a system below it counts as undertrained; other systems start from it
RECONSTRUCTION, SEGMENTATION = ("reconstruction",), ("segmentation",)

register(
    "gensc",
    "systems.gensc.system:GenSC",
    tasks=RECONSTRUCTION + SEGMENTATION,
    learned=True,
    asks="systems.gensc.task_kb:TaskKB",
    label="GenSC",
    colour=RED,
    mark=Mark(0, "o", "solid", 2.0, 5.0),
)
register(
    "linear",
    "baselines.linear:Linear",
    tasks=RECONSTRUCTION,
    fitted=True,
    label="Linear (block KLT)",
    colour=GREY,
    mark=Mark(10, "x", "wide dots", 1.2, 4.0),
)
register(
    "linear-select",
    "baselines.linear_select:LinearSelect",
    tasks=RECONSTRUCTION,
    fitted=True,
    label="Linear, selecting",
)
register(
    "gensc-select",
    "baselines.gensc_select:GenSCSelect",
    tasks=RECONSTRUCTION,
    learned=True,
    label="GenSC, selecting",
    colour=BLUE,
    mark=Mark(11, "p", "solid", 1.8, 5.0),
)
register(
    "adjscc-select",
    "baselines.adjscc_select:ADJSCCSelect",
    tasks=RECONSTRUCTION,
    learned=True,
    label="ADJSCC, selecting",
)
register(
    "deepjscc",
    "baselines.deepjscc:DeepJSCC",
    tasks=RECONSTRUCTION,
    learned=True,
    label="Deep JSCC",
    colour=MAGENTA,
    mark=Mark(3, "D", "short", 1.5, 3.8),
)
register(
    "adjscc",
    "baselines.adjscc:ADJSCC",
    tasks=RECONSTRUCTION,
    learned=True,
    label="ADJSCC",
    colour=GREEN,
    mark=Mark(2, "^", "dash-dot", 1.5, 4.8),
)
register(
    "witt",
    "baselines.witt:WITT",
    tasks=RECONSTRUCTION,
    learned=True,
    label="WITT",
    colour=NAVY,
    mark=Mark(1, "s", "dashed", 1.5, 4.2),
)
register(
    "deeplab-jscc",
    "baselines.deeplab_jscc:DeepLabJSCC",
    tasks=SEGMENTATION,
    learned=True,
    label="DeepLab-JSCC",
    colour=BLUE,
    mark=Mark(4, "P", "long", 1.5, 6.0),
)
register("fcn", "baselines.fcn:FCN", tasks=SEGMENTATION, learned=True, part=True, label="FCN")
register(
    "fcn-ceiling",
    "baselines.bounds:FCNCeiling",
    tasks=SEGMENTATION,
    label="FCN on the original",
    colour=BLACK,
    mark=Mark(8, "", "dotted", 1.0),
)

register(
    names.FIXED.form,
    "baselines.digital.system:DigitalSystem",
    tasks=RECONSTRUCTION,
    pattern=names.FIXED.pattern,
    examples=names.FIXED.examples,
    every=names.FIXED.all,
    label="{codec}+LDPC+{order}QAM",
    spelt=names.SPELT,
    looks=(
        ("jpeg-ldpc-16qam", BLACK, Mark(5, "v", "solid", 1.2, 4.6)),
        ("jpeg-ldpc-64qam", AMBER, Mark(6, "X", "dash-dot-dot", 1.5, 6.0)),
    ),
)
register(
    names.LABELLED.form,
    "baselines.digital.system:DigitalSegmentation",
    tasks=SEGMENTATION,
    pattern=names.LABELLED.pattern,
    examples=names.LABELLED.examples,
    every=names.LABELLED.all,
    label="{codec}+LDPC+{order}QAM+FCN",
    spelt=names.SPELT,
    like="{codec}-ldpc-{order}qam",
)
register(
    names.ADAPTIVE.form,
    "baselines.digital.system:AdaptiveDigital",
    tasks=RECONSTRUCTION,
    pattern=names.ADAPTIVE.pattern,
    examples=names.ADAPTIVE.examples,
    every=names.ADAPTIVE.all,
    label="{codec}+LDPC, adaptive",
    spelt=names.SPELT,
    looks=(("jpeg-ldpc-adaptive", BROWN, Mark(7, "*", "close", 1.2, 6.0)),),
)
register(
    names.BOUND.form,
    "baselines.bounds:CapacityBound",
    tasks=RECONSTRUCTION,
    pattern=names.BOUND.pattern,
    examples=names.BOUND.examples,
    every=names.BOUND.all,
    label="{codec} at capacity (bound)",
    spelt=names.SPELT,
    looks=(("jpeg-capacity", BLACK, Mark(9, "", "dotted", 1.0)),),
)
