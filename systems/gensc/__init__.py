"""GenSC: generative semantic communication for joint image transmission and segmentation (Yuan et al., 2024).

The package has one file for each part of the paper's Fig. 1: the task KB, the source KB at the transmitter (Fig. 2),
the JSCC encoder, the source KB at the receiver (Fig. 3), the diffusion-transformer decoder, and the segmentation
decoder. (KB: knowledge base; JSCC: joint source-channel coding.) `system.py` joins them. `open_choices.py` lists every
choice that the paper leaves open. The registry loads the package as the system `gensc`.
"""
