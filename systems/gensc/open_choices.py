"""The register of what the paper leaves open: every choice is a field of `GenSCConfig`, beside the paper's words.

`python -m bench list register` prints it. A test keeps it whole: each field of the configuration stands here once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One field: where the paper speaks of it, what it says, and what this implementation does about it."""

    field: str
    where: str
    paper: str
    here: str


REGISTER = (
    Choice(
        "channels",
        "not given",
        "no CBR or number of symbols for reconstruction is stated",
        "96 reals (48 complex uses) per 16 x 16 block, CBR 1/16, WITT's and the field's usual point; the budget cuts the last channels first",
    ),
    Choice("patch", "Table I", "patch size 4", "4"),
    Choice(
        "window",
        "Table I",
        "window size 7",
        "7; pictures are grown to multiples of 112 inside the source KB so that windows tile every stage",
    ),
    Choice("embed_dim", "Table I", "embedding dim 96", "96 (paper), 48 (small); doubled by each merging, as in Swin"),
    Choice(
        "depths",
        "Sec. III-B",
        "'three Swin-Transformers', no depth",
        "(2, 2, 2), the least depth that alternates plain and shifted windows",
    ),
    Choice("heads", "Table I", "attention head 3", "3 in the first stage, doubled with the dimension, as in Swin-T"),
    Choice(
        "feature_dim",
        "Sec. III-B",
        "f_R = f1 + f2 + f3: shapes differ after merging, alignment is not given",
        "each level is normalised, projected to feature_dim channels by each task on its own, and resized bilinearly to the JSCC encoder's grid",
    ),
    Choice("reconstruction_levels", "Sec. III-B", "f_R = f1 + f2 + f3", "levels 1, 2, 3"),
    Choice(
        "segmentation_levels",
        "Sec. III-B; introduction",
        "f_S = f2 + f3; but the introduction says 'only shallow features are necessary'",
        "levels 2, 3, as Sec. III has it",
    ),
    Choice(
        "prior",
        "Sec. III-B",
        "the KB's Swin transformer is 'powerful'; whether it was pre-trained is not said",
        "none (paper); efficientnet-lite0 (small): no pre-trained Swin can be had offline, so an ImageNet network, the one that the "
        "segmentation baselines start from, stands beside the Swin stages and its maps enter the features that are selected",
    ),
    Choice(
        "prior_tasks",
        "Sec. III-B",
        "the instruction decides which features are selected",
        "segmentation, which needs meaning; reconstruction works from the Swin features alone",
    ),
    Choice(
        "prior_frozen_stages",
        "Sec. III-B",
        "whether the KB is trained with the rest is not said",
        "the stem and 3 of the prior's 7 stages stay as published, the others are trained, as in the segmentation baselines",
    ),
    Choice(
        "selection_dilation",
        "Sec. III-B",
        "f_S = f2 + f3 and nothing behind the sum",
        "segmentation's sum passes one residual block whose second convolution has dilation 4 (cells of 8 pixels): what is sent of a "
        "position then knows what surrounds it",
    ),
    Choice("encoder_hidden", "Table I", "hidden dimension 128", "128"),
    Choice(
        "encoder_grid",
        "Sec. IV-A",
        "image and f are concatenated, then downsampled 'using a specified stride'",
        "both are brought to 1/8 of the picture's size (pixel unshuffle), the third convolution has stride 2. The convolutions serve both tasks; "
        "a scale and a shift of their channels, and the picture's own scale, belong to each task",
    ),
    Choice(
        "encoder_sees_snr",
        "not given",
        "whether the transmitter knows the SNR is not stated",
        "it does, as in ADJSCC and WITT: a gain per channel and task; the receiver computes the same gain from the same SNR",
    ),
    Choice(
        "local_gain",
        "Sec. IV-A",
        "nothing is said of how power is shared over the picture",
        "each block's channels have a gain of their own, from its activity and the encoder's features; the receiver infers it "
        "(systems/gensc/local_gain.py). false: one gain a channel for the whole picture (ablation)",
    ),
    Choice(
        "receiver_hidden",
        "Table I",
        "3 Conv2D layers, kernel 3, no width",
        "128, as the encoder (96 in small); the stem and two residual blocks",
    ),
    Choice(
        "receiver_kb",
        "Sec. III-C",
        "two residual blocks; reconstruction combines all features, segmentation takes the first block's",
        "combined by concatenation; false removes the KB (ablation)",
    ),
    Choice("decoder_depth", "Table I", "depth 28", "28 (paper), 4 (small)"),
    Choice(
        "decoder_dim",
        "Table I gives depth, patch and heads only",
        "the shape is DiT-XL/2's",
        "1152 as in DiT-XL/2 (paper): 685 M parameters in all, absurd for 800 training pictures; 192 (small)",
    ),
    Choice("decoder_heads", "Table I", "attention head 16", "16 (paper), 8 (small)"),
    Choice(
        "time_dim",
        "Sec. IV-B",
        "'time step embeddings', no width",
        "1152 as in DiT-XL/2 (paper), 64 (small); it also carries the picture's power and "
        "shifts the residual blocks of the receiver",
    ),
    Choice(
        "decoder_patch",
        "Table I",
        "patch size 2",
        "2, on a latent at 1/8 of the picture's size: one token per 16 x 16 block. The latent is the received "
        "channels spread over 2 x 2 positions, so that another patch size would give the same tokens",
    ),
    Choice(
        "decoder_window",
        "Sec. IV-B",
        "multi-head attention over the patches, no window",
        "0, global (paper); 7 tokens, shifted (small): "
        "positions repeat with the window, so pictures larger than the training crops hold no unseen position",
    ),
    Choice(
        "decoder_refine",
        "Sec. IV-B",
        "'an upsampling layer ... followed by a residual block', no width",
        "64 channels (32 in small) at 1/4 of the size, two blocks",
    ),
    Choice(
        "refinement_steps",
        "Sec. IV-B",
        "'after several iterations of attention-based refinement': schedule, steps and sampler are not given",
        "1 in every PSNR figure: the MMSE estimate; more walk the deterministic DDIM path",
    ),
    Choice(
        "time_tied_to_noise",
        "Sec. IV-B",
        "'added time step embeddings', no schedule; the loss is a plain MSE",
        "the channel is the forward process: t = (2/pi) atan(sigma) with sigma^2 the noise variance at the receiver",
    ),
    Choice(
        "decoder_coefficients",
        "Sec. IV-B",
        "'the results are concatenated to reconstruct the image'",
        "each token corrects the first 384 block-KLT coefficients of its block, the 96 that were sent and the next, in units of their deviation",
    ),
    Choice(
        "latent_loss",
        "Eq. 5",
        "MSE of the picture alone",
        "a small weight (0.01) on the error of the predicted clean symbols, which the DDIM path needs",
    ),
    Choice(
        "activity_loss",
        "Eq. 5",
        "MSE of the picture alone",
        "a small weight (0.005) on the error of the activity that the receiver infers",
    ),
    Choice(
        "segmentation_hidden",
        "Table I",
        "1 Conv2D layer, kernel 3; Sec. IV-B: two residual blocks",
        "256 (paper), 192 (small)",
    ),
    Choice(
        "segmentation_dilations",
        "Sec. IV-B",
        "two residual blocks",
        "their second convolutions have dilations 3 and 6 (cells of 16 pixels), and the mean of the whole map enters the second as the time does",
    ),
    Choice("dropout", "Table I", "drop out 0.1", "0.1"),
)

#: Readings that are not fields: where the paper contradicts itself and code had to take a side.
READINGS = (
    Choice(
        "similarity",
        "Eq. 4",
        "cos() of a cosine, which would pick the least similar instruction",
        "the cosine similarity",
    ),
    Choice("cross_entropy", "Eq. 6", "m is both a logit and a probability", "logits, softmax inside the loss"),
    Choice(
        "side_information",
        "not given",
        "whether the receiver knows the power before normalisation",
        "it does, through 8 bits charged to the budget",
    ),
    Choice(
        "attention_window",
        "Table I",
        "window 7 does not divide 768/4 or 512/4",
        "grown by repeating the edge, cut afterwards",
    ),
    Choice(
        "receiver_layers",
        "Table I; Sec. III-C",
        "3 Conv2D layers; but two residual blocks of two convolutions each",
        "a stem and two blocks of two: five convolutions, kernel 3",
    ),
    Choice(
        "training",
        "Sec. V-A",
        "AdamW, learning rate 1e-4, DIV2K and VOC; epochs, batch, crop and SNR range are not given",
        "configs/train: SNR uniform in 0..20 dB, other pictures, larger learning rate, Eq. 5 as its logarithm picture by picture, a teacher's soft labels beside Eq. 6; each sidecar holds its protocol",
    ),
    Choice(
        "threshold",
        "Sec. III-A",
        "the most similar instruction is taken, whatever its similarity",
        "below a cosine of 0.30 to every stored wording a requirement is refused; each task is stored in four wordings",
    ),
    Choice(
        "linear_path",
        "Sec. IV-A",
        "a residual block with downsampling; initialisation is not stated",
        "its shortcut is the block-KLT code, fixed, and its inverse stands at the receiver: training starts at the best linear code. For "
        "segmentation it is a projection of f. Gains, to which all other weights adapt, take a tenth of the learning rate",
    ),
    Choice(
        "scale",
        "not given",
        "whether the networks see a picture's contrast",
        "they read and correct pictures in units of their contrast: the transmitter "
        "measures it, the receiver has it from the side information",
    ),
    Choice(
        "channel_code",
        "Sec. V-A",
        "LDPC rate and length are not given",
        "5G NR at rate 5/6, which puts the cliffs at the paper's 12 and 18 dB",
    ),
    Choice(
        "miou",
        "Eq. 3",
        "IoU of one pair of regions",
        "mean over the classes of one confusion matrix of the data set, void ignored",
    ),
    Choice(
        "fcn",
        "ref. [23]",
        "'fully-connected network', cited as ResNet",
        "a fully convolutional network on a pre-trained backbone",
    ),
)
