"""The register of what the paper leaves open: each choice beside the paper's words.

`REGISTER` has one entry for each field of `GenSCConfig`. `READINGS` has the choices that are no fields.

`python -m bench list register` prints both. A test checks that each field of the configuration has exactly one entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One entry: the field, the place in the paper, what the paper says there, and what this implementation does."""

    field: str
    where: str
    paper: str
    here: str


REGISTER = (
    Choice(
        "channels",
        "not given",
        "no CBR or number of symbols for reconstruction is stated",
        "96 reals (48 complex uses) per 16 x 16 block, CBR 1/16, WITT's and the field's usual point; the "
        "budget cuts the last channels first",
    ),
    Choice(
        "patch",
        "Table I",
        "patch size 4",
        "4",
    ),
    Choice(
        "window",
        "Table I",
        "window size 7",
        "7; how the sides are brought to whole windows is `stage_padding`",
    ),
    Choice(
        "embed_dim",
        "Table I",
        "embedding dim 96",
        "96 (paper), 48 (small), 30 (light); doubled by each merging, as in Swin",
    ),
    Choice(
        "depths",
        "Sec. III-B",
        "'three Swin-Transformers', no depth",
        "(2, 2, 2), the least depth that alternates plain and shifted windows; (2, 2, 1) in small, whose third map has "
        "one window in a crop of 112 x 112",
    ),
    Choice(
        "heads",
        "Table I",
        "attention head 3",
        "3 in the first stage, doubled with the dimension, as in Swin-T",
    ),
    Choice(
        "stage_padding",
        "Table I",
        "window 7 does not divide 768/4 or 512/4",
        "each stage is grown to whole windows by repeating the edge, and cut; false (small): the picture is "
        "grown once, to a multiple of 112",
    ),
    Choice(
        "feature_dim",
        "Sec. III-B",
        "f_R = f1 + f2 + f3: shapes differ after merging, alignment is not given",
        "each level is normalised, projected to feature_dim channels by each task on its own, and resized "
        "bilinearly to the JSCC encoder's grid",
    ),
    Choice(
        "reconstruction_levels",
        "Sec. III-B",
        "f_R = f1 + f2 + f3",
        "levels 1, 2, 3",
    ),
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
        "none (paper); efficientnet-lite0 (small, light): no pre-trained Swin can be had offline, so an "
        "ImageNet network, the one that the segmentation baselines start from, stands beside the Swin stages "
        "and its maps enter the features that are selected",
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
        "the stem and 3 of the prior's 7 stages (6 in light) stay as published, the others are trained",
    ),
    Choice(
        "selection_dilation",
        "Sec. III-B",
        "f_S = f2 + f3 and nothing behind the sum",
        "0 (paper): nothing. 4 (small, light): segmentation's sum passes one residual block whose second "
        "convolution has dilation 4 (cells of 8 pixels): what is sent of a position then knows what surrounds"
        " it",
    ),
    Choice(
        "encoder_hidden",
        "Table I",
        "hidden dimension 128",
        "128",
    ),
    Choice(
        "encoder_grid",
        "Sec. IV-A",
        "image and f are concatenated, then downsampled 'using a specified stride'",
        "both are brought to 1/8 of the picture's size (pixel unshuffle); the first convolution joins them, "
        "the second is the residual block's, the third has stride 2. The convolutions serve both tasks",
    ),
    Choice(
        "linear_path",
        "Sec. IV-A",
        "a residual block with downsampling; nothing stands beside it",
        "false (paper). true (small, light): its shortcut is the block-KLT code, fixed, and the code's "
        "inverse stands at the receiver, which 8 charged bits tell the power before normalisation: training "
        "starts at the best linear code. For segmentation the shortcut is a projection of f",
    ),
    Choice(
        "contrast_units",
        "not given",
        "whether the networks see a picture's contrast",
        "false (paper). true (small, light): beside the linear path they read and correct pictures in units "
        "of their contrast, which the transmitter measures and the receiver has from the side information",
    ),
    Choice(
        "task_share",
        "Sec. IV-A",
        "one unified encoder",
        "false (paper): nothing of it belongs to a task. true (small, light): each task weighs the shared "
        "convolutions by a scale and a shift, and gives each channel a gain",
    ),
    Choice(
        "encoder_sees_snr",
        "not given",
        "whether the transmitter knows the SNR is not stated",
        "false (paper). true (small, light): it does, as in ADJSCC and WITT, through the channels' gains; the"
        " receiver computes the same gain from the same SNR",
    ),
    Choice(
        "lmmse",
        "Eq. 1",
        "the received signal y goes into KB and decoder",
        "false (paper): the equalised symbols as they are. true (small, light): their linear MMSE estimate",
    ),
    Choice(
        "receiver_hidden",
        "Table I",
        "3 Conv2D layers, kernel 3, no width",
        "128, as the encoder (96 in small, 80 in light); the stem and two residual blocks",
    ),
    Choice(
        "receiver_kb",
        "Sec. III-C",
        "two residual blocks; reconstruction combines all features, segmentation takes the first block's",
        "combined by concatenation; false removes the KB (ablation)",
    ),
    Choice(
        "noise_in_residuals",
        "Sec. III-C; Sec. IV-B",
        "time steps are embedded in the diffusion transformer alone",
        "false (paper). true (small, light): the same embedding shifts the residual blocks of the receiver",
    ),
    Choice(
        "decoder_depth",
        "Table I",
        "depth 28",
        "28 (paper), 4 (small, light)",
    ),
    Choice(
        "decoder_dim",
        "Table I gives depth, patch and heads only",
        "the shape is DiT-XL/2's",
        "1152 as in DiT-XL/2 (paper): 682 M parameters in all, absurd for 800 training pictures; 192 (small),"
        " 160 (light)",
    ),
    Choice(
        "decoder_heads",
        "Table I",
        "attention head 16",
        "16 (paper), 8 (small, light)",
    ),
    Choice(
        "time_dim",
        "Sec. IV-B",
        "'time step embeddings', no width",
        "1152 as in DiT-XL/2 (paper), 64 (small, light); beside a linear path it also carries the picture's power",
    ),
    Choice(
        "decoder_patch",
        "Table I",
        "patch size 2",
        "2, on a latent at 1/8 of the picture's size: one token per 16 x 16 block. The latent is the received"
        " channels spread over 2 x 2 positions, so that another patch size would give the same tokens",
    ),
    Choice(
        "decoder_window",
        "Sec. IV-B",
        "multi-head attention over the patches, no window",
        "0, global (paper); 7 tokens (small) or 8 (light), shifted: positions repeat with the window, so "
        "pictures larger than the training crops hold no unseen position",
    ),
    Choice(
        "decoder_refine",
        "Sec. IV-B",
        "'an upsampling layer ... followed by a residual block', no width",
        "64 channels (32 in small and light) at 1/4 of the size",
    ),
    Choice(
        "decoder_residuals",
        "Sec. IV-B",
        "'followed by a residual block'",
        "1 (paper), 2 (small, light)",
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
        "0 (paper): the tokens' upsampled features make the picture. 384 (small), 256 (light): each token "
        "corrects so many block-KLT coefficients of its block, the 96 that were sent and the next, in units "
        "of their deviation",
    ),
    Choice(
        "latent_loss",
        "Eq. 5",
        "MSE of the picture alone",
        "0 (paper). 0.01 (small, light): the weight of the error of the predicted clean symbols, which the "
        "DDIM path needs",
    ),
    Choice(
        "segmentation_hidden",
        "Table I",
        "1 Conv2D layer, kernel 3; Sec. IV-B: two residual blocks",
        "256 (paper), 192 (small), 128 (light)",
    ),
    Choice(
        "segmentation_dilations",
        "Sec. IV-B",
        "two residual blocks",
        "(1, 1), plain (paper); (3, 6), of their second convolutions, in cells of 16 pixels (small, light)",
    ),
    Choice(
        "segmentation_context",
        "Sec. IV-B",
        "two residual blocks",
        "false (paper). true (small, light): the mean of the whole map enters the second block as the time does",
    ),
    Choice(
        "dropout",
        "Table I",
        "drop out 0.1",
        "0.1",
    ),
)

#: Readings that are no fields: the paper contradicts itself or is silent, and the code had to decide.
READINGS = (
    Choice(
        "similarity",
        "Eq. 4",
        "cos() of a cosine, which would pick the least similar instruction",
        "the cosine similarity",
    ),
    Choice(
        "cross_entropy",
        "Eq. 6",
        "m is both a logit and a probability",
        "logits, softmax inside the loss",
    ),
    Choice(
        "side_information",
        "not given",
        "whether the receiver knows the power before normalisation",
        "in paper it does not; beside a linear path it does, through 8 bits charged to the budget",
    ),
    Choice(
        "attention_window",
        "Table I",
        "window 7 does not divide 768/4 or 512/4",
        "token grids are grown by repeating the edge, and cut afterwards",
    ),
    Choice(
        "patch_norm",
        "Sec. III-B",
        "a Swin-Transformer, which normalises each token after the patch embedding",
        "one mean and one variance over the whole picture (GroupNorm with one group)",
    ),
    Choice(
        "selection",
        "Sec. III-B",
        "the source KB selects features by the instruction alone, the same for all places of a picture",
        "the same here; `gensc-select` goes beyond the paper and also selects what is sent of each block",
    ),
    Choice(
        "receiver_layers",
        "Table I; Sec. III-C",
        "3 Conv2D layers; but two residual blocks of two convolutions each",
        "a stem and two blocks of two: five convolutions, kernel 3",
    ),
    Choice(
        "segmentation_layers",
        "Table I; Sec. IV-B",
        "1 Conv2D layer, kernel 3; but two residual blocks, upsampling and a 1 x 1 convolution",
        "Table I's is the one after the upsampling by 2; the blocks have four more of kernel 3; 1 x 1 convolutions "
        "join y and f~, stand before the pixel shuffle, and give the logits, which are upsampled bilinearly by 8",
    ),
    Choice(
        "norms",
        "Sec. III-C; Sec. IV",
        "residual blocks as in ResNet, no norm or activation named",
        "GroupNorm (8 groups) before the first and SiLU before both convolutions of a block; the JSCC encoder has "
        "SiLU and no norm",
    ),
    Choice(
        "training",
        "Sec. V-A",
        "AdamW, learning rate 1e-4, DIV2K and VOC; epochs, batch, crop and SNR range are not given",
        "configs/train: SNR uniform in 0..20 dB, other pictures, larger learning rate, Eq. 5 as its logarithm"
        " picture by picture, a teacher's soft labels beside Eq. 6; each sidecar holds its protocol",
    ),
    Choice(
        "threshold",
        "Sec. III-A",
        "the most similar instruction is taken, whatever its similarity",
        "below a cosine of 0.30 to every stored wording a requirement is refused; each task is stored in four wordings",
    ),
    Choice(
        "learning_rates",
        "Sec. V-A",
        "one learning rate",
        "gains, to which all other weights adapt, take a tenth of it, an ImageNet network a fifth",
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
