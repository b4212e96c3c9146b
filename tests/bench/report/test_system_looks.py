"""Tests of looks: systems can be told apart in colour, in grey and by colour-blind readers, those of the bench and of
users alike.
"""

from itertools import combinations
from types import SimpleNamespace

import colour_vision
import pytest

from bench.report import system_looks
from bench.report.drawing_job import DrawingJob
from bench.report.options import Options
from bench.report.paper_sheet import COLUMN
from bench.report.published_curves import published_labels
from bench.util.colours import to_hex
from systems import registry

#: Systems that share a figure of the bench or of the reference run.
TOGETHER = [
    ["gensc", "witt", "adjscc", "deepjscc", "jpeg-ldpc-16qam", "jpeg-ldpc-64qam", "linear", "jpeg-ldpc-adaptive"],
    ["gensc", "deeplab-jscc", "jpeg-ldpc-16qam-fcn", "jpeg-ldpc-64qam-fcn"],
]


@pytest.mark.parametrize("systems", TOGETHER)
def test_systems_of_one_figure_are_told_apart_in_every_way(systems):
    looks = system_looks.looks_of(systems)
    for a, b in combinations(systems, 2):
        first, second = looks[a], looks[b]
        assert first.marker != second.marker and first.label != second.label, (a, b)
        assert first.dash != second.dash or "gensc" in (a, b)  # GenSC and 16QAM are both solid: red and wide, black
        assert colour_vision.distance(first.colour, second.colour) > 25, (a, b)
        assert colour_vision.distance(first.colour, second.colour, "deuteranopia") > 20, (a, b)
        assert colour_vision.distance(first.colour, second.colour, "grey") > 7, (a, b)


@pytest.mark.parametrize("system", sorted({name for names in TOGETHER for name in names}))
def test_no_colour_vanishes_on_white(system):
    """Yellow did, with a luminance of 0.75. The contrast of WCAG 2 is (1.05) / (luminance + 0.05)."""
    assert 1.05 / (colour_vision.luminance(system_looks.style_of(system).colour) + 0.05) > 1.9


def test_colour_vision_of_known_colours():
    assert colour_vision.luminance("#000000") == 0 and colour_vision.luminance("#FFFFFF") == pytest.approx(1)
    assert colour_vision.luminance("#00FF00") == pytest.approx(0.7152, abs=1e-4)
    # L* of middle grey, sRGB 119, is 50; grey looks the same with every kind of colour vision.
    assert colour_vision.distance("#000000", "#777777") == pytest.approx(50.03, abs=0.1)
    assert colour_vision.distance("#404040", "#A0A0A0", "deuteranopia") == pytest.approx(
        colour_vision.distance("#404040", "#A0A0A0"), abs=0.3
    )
    # Red and green of equal luminance: far apart in colour, close for a deuteranope, equal in grey.
    red, green = "#B06040", "#708040"
    assert colour_vision.distance(red, green) > 40 > 3 * colour_vision.distance(red, green, "deuteranopia")


def test_a_look_depends_on_the_name_alone():
    alone = system_looks.style_of("someones-system")
    for name in ("zzz", "gensc", "my-system", "jpeg-ldpc-16qam"):
        system_looks.style_of(name)
    assert system_looks.style_of("someones-system") == alone


def test_third_parties_are_drawn_as_well_as_ours_and_never_like_one_of_ours():
    fixed = {(system_looks.style_of(n).colour, system_looks.style_of(n).marker) for names in TOGETHER for n in names}
    others = system_looks.looks_of([f"system-{number}" for number in range(100)])
    for name, look in others.styles.items():
        assert look.width >= 1.5 and look.marker_size >= 4.2, name
        assert (look.colour, look.marker) not in fixed
    # In one figure no two systems share marker and dash, as long as there are enough of these.
    twenty = system_looks.looks_of([f"system-{number}" for number in range(20)]).styles.values()
    assert len({(look.marker, look.dash) for look in twenty}) == 20


def test_no_label_stands_for_two_systems():
    told = {name: {"label": "One Name"} for name in ("mine", "yours")} | {"other": {"label": "Other"}}
    looks = system_looks.looks_of([*told, "gensc"], told)
    assert looks.label("mine") == "One Name (mine)" and looks.label("yours") == "One Name (yours)"
    assert looks.label("other") == "Other" and looks.label("gensc") == "GenSC"
    swapped = {"mine": {"label": "Other"}, "other": {"label": "Poor"}}  # tables of names say "other" of the other one
    assert system_looks.looks_of(swapped, swapped).label("mine") == "Other (mine)"
    longer = {"other-large": {"label": "Other"}, "other": {"label": "Poor"}}  # its own name holds that of the other
    assert system_looks.looks_of(longer, longer).label("other-large") == "Other (other-large)"
    assert system_looks.looks_of(told, told, said={"mine": "A", "yours": "A"}).label("yours") == "A"  # the user's word


def test_no_label_holds_the_name_of_another_system():
    """Beside a system with the label "Good", "Good (theirs)" would be taken for that system."""
    told = {"theirs": {"label": "Good"}, "mine": {"label": "Good (theirs)"}, "mine-large": {"label": "Mine-Large"},
            "poor": {"label": "Good, trained longer"}, "new:theirs": {"label": "Good"}}  # fmt: skip
    looks = system_looks.looks_of([*told, "jpeg-ldpc-16qam", "jpeg-ldpc-16qam-fcn"], told)
    assert looks.label("mine") == "Good (theirs) (mine)"
    assert looks.label("poor") == "Good, trained longer (poor)" and looks.label("new:theirs") == "Good (new)"
    assert (looks.label("theirs"), looks.label("mine-large")) == ("Good", "Mine-Large")
    assert "(" not in looks.label("jpeg-ldpc-16qam-fcn")


def test_no_label_is_that_of_a_published_curve():
    told = {"mine": {"label": "SwinJSCC, official weights"}}
    assert told["mine"]["label"] in published_labels()
    assert system_looks.looks_of(told, told).label("mine") == "SwinJSCC, official weights (mine)"
    named = {"swinjscc-official-weights": told["mine"]}  # also if its name is the label
    assert system_looks.looks_of(named, named).label(*named) == f"SwinJSCC, official weights ({next(iter(named))})"


def test_no_label_stands_for_two_systems_of_two_runs():
    """A label with a name or a run in it may be what a third system calls itself."""
    told = {"mine": {"label": "One"}, "yours": {"label": "One"}, "third": {"label": "One (mine)"}, "new:mine": {},
            "fourth": {"label": "One (new)", "plugin": True}, "new:gensc-large": {"plugin": True}}  # fmt: skip
    told["new:mine"] = {"label": "One"}
    looks = system_looks.looks_of(told, told)
    bare = [registry.bare(looks.label(name)) for name in told]
    assert len(set(bare)) == len(bare), [looks.label(name) for name in told]
    assert looks.label("mine") == "One (mine)" and looks.label("third") == "One (mine) (third)"
    assert looks.label("new:gensc-large") == "gensc-large (plug-in) (new)"
    for how in ("labels", "said"):
        looks = system_looks.looks_of(["mine", "new:mine"], **{how: {"mine": "G"}})
        assert (looks.label("mine"), looks.label("new:mine")) == ("G", "G (new)")


def test_the_label_of_another_run_s_system_is_what_that_run_says():
    """Else a third party's gensc-large stands in the figure as if it were a size of ours."""
    ours = SimpleNamespace(name="r", system_facts={"mine": {"label": "First"}})
    other = SimpleNamespace(system_facts={"gensc-large": {"plugin": True}, "mine": {"label": "Second"}})
    figures = [{"systems": ["mine"], "look": {}}]
    job = DrawingJob("f", ours, figures, Options(), {"new": (other, None)})
    looks = job.looks(["mine", "new:mine", "new:gensc-large"])
    assert looks.label("new:gensc-large") == "gensc-large (plug-in) (new)"
    assert (looks.label("mine"), looks.label("new:mine")) == ("First", "Second (new)")


@pytest.mark.parametrize(
    "label", ["GenSC", "GenSC, the weights of its paper", "GenSC " + 40 * "of the paper ", "x" * 60]
)
@pytest.mark.parametrize("name", ["his", "the-codec-of-somebody-and-his-students-with-" + 16 * "x"])
def test_no_letter_of_the_name_behind_a_label_is_cut(label, name):
    """The name in brackets alone says that a third party's system with the label "GenSC, ..." is not ours."""
    told = {one: {"label": label, "plugin": True} for one in (name, f"new:{name}", "other")}
    looks = system_looks.looks_of([*told, "gensc"], told)
    assert looks.label(name).endswith(f" ({name})") and looks.label("other").endswith(" (other)")
    assert looks.label(f"new:{name}").endswith(f" ({name}) (new)") or f"(new:{name})" in looks.label(f"new:{name}")
    assert looks.label(name)[:25] == f"{label} ({name})"[:25]
    assert all(len(looks.label(one)) < 200 for one in told)  # the label is cut instead
    ours = f"gensc-{54 * 'x'}"  # a name like a size of ours
    assert system_looks.looks_of([ours], {ours: {"plugin": True}}).label(ours) == f"{ours} (plug-in)"


#: Names that fell on one look of the page in fours, where it is chosen by a hash of the name alone.
MANY = ["my-system", "my-network", "semantic-x", "swinjscc", "ntscc", "mambajscc", "deepsc", "vq-jscc", "diffjscc",
        "cdm", "nerf-tx", "tokencom", "rival", "his77", "mine", "yours", "s1", "s2", "s3", "s4"]  # fmt: skip


@pytest.mark.parametrize("colours", [{}, {"rival": "#123456", "his77": "#123456", "mine": "#133457", "s4": "#10355A"}])
def test_third_parties_are_told_apart_in_colour_and_in_grey(colours):
    """The report's page draws no markers, and print has no colours. 20 systems have as many looks."""
    told = {name: {"plugin": True, "colour": colours.get(name, "")} for name in MANY}
    styles = system_looks.looks_of(MANY, told).styles
    assert all(styles[name].colour == colour for name, colour in colours.items())
    for (a, one), (b, other) in combinations(styles.items(), 2):
        near = a in colours and b in colours or one.colour == other.colour
        assert one.dash != other.dash or (one.marker != other.marker and not near), (a, b)


def test_third_parties_of_another_run_are_told_apart():
    """Their dashes give way to one for another run. Those of one colour have other markers."""
    told = {f"new:{name}": {"plugin": True, "colour": "#123456"} for name in MANY[:6]}
    here = {name: {"plugin": True, "colour": "#123456"} for name in MANY[:4]}
    for facts in (told, told | here):
        styles = system_looks.looks_of(facts, facts).styles
        assert len({(look.colour, look.marker, look.dash, look.hollow) for look in styles.values()}) == len(facts)


@pytest.mark.parametrize("colour", ["#D2271F", "#d3281e", "black", "white", "#FFFFE0", "none", "#268CC8"])
def test_no_third_party_s_curve_has_the_colour_of_one_of_ours_or_of_the_paper(colour):
    own = system_looks.style_of("someones-system").colour
    assert system_looks.style_of("someones-system", {"colour": colour, "plugin": True}).colour == own
    assert system_looks.style_of("someones-system", {"colour": "#123456", "plugin": True}).colour == "#123456"


@pytest.mark.parametrize("colour", ["C" + "9" * 5000, "#12", "reddish", "\0", "1e400", "x" * 61, 7, None, ["red"]])
def test_what_is_no_colour_is_none(colour):
    """matplotlib reads "C9" as a number, and Python reads no number of 5,000 digits."""
    assert to_hex(colour) == "" and to_hex("teal") == "#008080"
    told = {"colour": colour, "plugin": True}
    assert system_looks.style_of("someones-system", told) == system_looks.style_of("someones-system")


def test_labels_compose():
    assert system_looks.style_of("avif-ldpc-256qam-fcn").label == "AVIF+LDPC+256QAM+FCN"
    assert system_looks.style_of("jpeg-ldpc-16qam").label == "JPEG+LDPC+16QAM"
    assert system_looks.style_of("my-system").label == "my-system"
    ceiling = system_looks.style_of("fcn-ceiling").label
    assert "ceiling" not in ceiling.lower() and "original" in ceiling


def test_the_figures_file_and_the_options_change_looks():
    wish = {"order": ["mine"], "label": {"mine": "My system"},
            "colour": {"mine": "teal", "witt": "#775500"}}  # fmt: skip
    looks = figure_and_tables(["gensc", "mine", "witt"], wish)
    assert looks.sorted(["witt", "gensc", "mine"]) == ["mine", "gensc", "witt"]
    assert [looks.label(name) for name in ("mine", "gensc", "witt")] == ["My system", "GenSC", "WITT"]
    assert (looks["mine"].colour, looks["witt"].colour) == ("#008080", "#775500")


def figure_and_tables(systems, wish, facts=None, **options):
    """The looks of a figure whose file has the wishes `wish`; those of the drawing, which are those of the tables."""
    entry = {"id": "f", "systems": systems, "look": wish}
    run = SimpleNamespace(name="r", system_facts=facts or {})
    looks = DrawingJob("f", run, [entry], Options(**options)).looks(systems)
    assert options or looks == system_looks.figure_looks(entry, facts)
    return looks


STRANGER = {"c-honest": {"plugin": True, "label": "Honest codec"}}


@pytest.mark.parametrize(
    "label",
    [
        "GenSC", "gen SC, trained longer", "GenS\u0421", "linear", "Linear (block KLT)", "W1TT", "Deep JSCC, large",
        ".", "SwinJSCC, official weights", "AVIF+LDPC, adaptive", "Yours, trained longer",
    ],
)  # fmt: skip
def test_no_file_of_a_figure_shows_a_system_under_another_s_name(label):
    """No hash of a run holds the wishes of a figure's file, and whoever passes a run on may have written them."""
    systems = ["gensc", "c-honest", "linear", "yours"]
    facts = STRANGER | {"yours": {"plugin": True, "label": "Yours"}}
    looks = figure_and_tables(systems, {"label": {"c-honest": label}}, facts)
    assert looks.label("c-honest") == f"{label} (c-honest)"
    bare = [registry.bare(looks.label(name)) for name in systems]
    assert len(set(bare)) == len(bare)
    said = figure_and_tables(systems, {}, facts, labels={"c-honest": label})
    assert said.label("c-honest") == label  # the user's own word


@pytest.mark.parametrize("label", ["Honest codec", "GenSC, undertrained", "GenSC", "A bound", "Deep JSCC, large", "."])
@pytest.mark.parametrize("system", ["gensc", "new:gensc", "jpeg-ldpc-16qam-fcn"])
def test_no_wish_of_a_manifest_renames_a_system_of_ours(system, label):
    systems = ["gensc", "new:gensc", "c-honest", "jpeg-ldpc-16qam-fcn"]
    plain = figure_and_tables(systems, {}, STRANGER)
    for wish in ({system: label}, {system.rpartition(":")[2]: label}):
        assert figure_and_tables(systems, {"label": wish}, STRANGER) == plain
    assert figure_and_tables(systems, {}, STRANGER, labels={system: label}).label(system) == label


def test_two_wishes_do_not_make_one_label():
    looks = figure_and_tables(["mine", "yours"], {"label": {"mine": "Ours", "yours": "Ours"}})
    assert (looks.label("mine"), looks.label("yours")) == ("Ours (mine)", "Ours (yours)")


@pytest.mark.parametrize("run", ["gensc", "results of GenSC", "witt-2", "W\u0406TT"])
def test_no_run_passes_for_a_system(run):
    """The folder of a run is often named by whoever made it."""
    looks = system_looks.looks_of(["gensc", f"{run}:c-honest", f"{run}:gensc", "new:c-honest"], STRANGER)
    assert looks.label(f"{run}:c-honest") == f"Honest codec (run {run})"
    assert looks.label(f"{run}:gensc") == f"GenSC (run {run})"
    assert looks.label("new:c-honest") == "Honest codec (new)"


@pytest.mark.parametrize("colour", ["#D2271F", "#d3281e", "black", "#268CC8"])
def test_no_file_of_a_figure_gives_a_system_the_colour_of_one_of_ours(colour):
    plain = figure_and_tables(["c-honest", "linear", "gensc"], {}, STRANGER)
    for system in ("c-honest", "linear"):
        looks = figure_and_tables(["c-honest", "linear", "gensc"], {"colour": {system: colour}}, STRANGER)
        assert looks[system].colour == plain[system].colour
    own = {"colour": {"gensc": "#D2271F", "c-honest": "#123456"}}
    looks = figure_and_tables(["c-honest", "gensc", "new:gensc"], own, STRANGER)
    assert looks["gensc"].colour == looks["new:gensc"].colour == "#D2271F" and looks["c-honest"].colour == "#123456"


def test_highlight_makes_one_wide_and_the_others_faint():
    looks = system_looks.looks_of(["gensc", "mine", "witt"], highlight=["mine"])
    assert looks["mine"].width > max(looks["gensc"].width, looks["witt"].width) and not looks["mine"].faint
    assert looks["gensc"].faint and looks["gensc"].line()["alpha"] < 1 and looks["gensc"].width >= 1


def test_a_trained_start_stands_in_the_legend():
    facts = {
        "witt": {"config": {"linear_path": True}},
        "adjscc": {"config": {"linear_path": False}},
        "mine": {"config": 3},
    }
    looks = system_looks.looks_of(["witt", "adjscc", "mine"], facts)
    assert looks.label("witt") == "WITT (KLT start)" and looks.label("adjscc") == "ADJSCC"


def test_a_system_of_another_run_has_its_colour_and_another_line():
    looks = system_looks.looks_of(["gensc", "new:gensc"])
    ours, theirs = looks["gensc"], looks["new:gensc"]
    assert theirs.colour == ours.colour and theirs.dash != ours.dash and theirs.hollow
    assert theirs.label == "GenSC (new)" and looks.sorted(["new:gensc", "gensc"])[0] == "gensc"


def test_a_column_is_a_journals():
    assert COLUMN == 3.5
