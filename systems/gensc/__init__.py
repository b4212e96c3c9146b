"""GenSC: generative semantic communication for joint image transmission and segmentation (Yuan et al., 2024).

One file a part of the paper's Fig. 1: task KB, source KB at the transmitter (Fig. 2), JSCC encoder, source KB at the
receiver (Fig. 3), diffusion-transformer decoder, segmentation decoder; `system.py` joins them, `open_choices.py` lists
every choice the paper leaves open.
"""
