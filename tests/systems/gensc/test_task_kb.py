"""Tests of the task knowledge base with the real Sentence-BERT model: paraphrases, refusals, and the literal reading of
Eq. 4.
"""

import math

import pytest

from systems.errors import UserError
from systems.gensc.task_kb import MEMORY, TaskKB
from systems.interface import DEFAULT_REQUIREMENT

# Written after the stored wordings were fixed; none was used to choose a wording or the threshold.
RECONSTRUCTION = [
    "I would like to see the original image.",
    "Please restore the picture as faithfully as you can.",
    "Recover the transmitted photograph.",
    "Show me the photo you took.",
    "Rebuild the image with as little distortion as possible.",
    "Deliver the image in its original quality.",
    "I need a clean copy of this picture.",
    "Decode the photograph so that textures and colours are preserved.",
    "Get me the image with the highest fidelity.",
    "Reproduce the scene photograph exactly.",
    "image restoration",
    "send the whole picture please",
    "Give me back the original photo.",
    "Reconstruct the photograph from the received signal.",
    "transmit this image in high resolution",
]
SEGMENTATION = [
    "please label every pixel",
    "which pixels belong to which object?",
    "Mark the regions of the person, the dog and the car.",
    "semantic segmentation",
    "Draw the outlines of all objects.",
    "Classify each pixel into a category.",
    "Separate the objects from the background.",
    "I want a segmentation map.",
    "Produce a mask for each object class.",
    "Partition the scene into semantic regions.",
    "Tell me where the objects are, pixel by pixel.",
    "Divide the image into labelled regions.",
    "Colour each object by its category.",
    "What class does each pixel have?",
    "Cut out the objects in the picture.",
]


@pytest.mark.parametrize(
    ("sentences", "instruction"), [(RECONSTRUCTION, "reconstruction"), (SEGMENTATION, "segmentation")]
)
def test_paraphrases_are_mapped_to_their_task(sentences, instruction):
    stored = {wording for group in MEMORY.values() for wording in group}
    assert not stored & set(sentences)
    wrong = {sentence: TaskKB().scores(sentence) for sentence in sentences if TaskKB().match(sentence) != instruction}
    assert not wrong


@pytest.mark.parametrize(
    "sentence", ["What is the capital of France?", "Play some music.", "Order a pizza for two.", "asdf qwer"]
)
def test_a_sentence_that_fits_neither_task_is_refused_with_the_scores(sentence):
    with pytest.raises(UserError, match=r"reconstruction -?0\.\d\d, segmentation -?0\.\d\d"):
        TaskKB().match(sentence)


def test_the_shortcut_for_stored_wordings_agrees_with_the_model():
    """`match` assigns a stored wording to its own task without the model. The model's scores give the same task."""
    assert {DEFAULT_REQUIREMENT[task] for task in MEMORY} <= {wording for group in MEMORY.values() for wording in group}
    for task, wordings in MEMORY.items():
        for wording in wordings:
            scores = TaskKB().scores(wording)
            assert scores[task] == pytest.approx(1.0, abs=1e-5) and max(
                scores, key=scores.get
            ) == task == TaskKB().match(wording)


def test_equation_4_taken_literally_would_choose_the_less_similar_instruction():
    scores = TaskKB().scores("please label every pixel")
    assert max(scores, key=lambda name: math.cos(scores[name])) != max(scores, key=scores.get)
