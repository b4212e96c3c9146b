"""Parts that several systems share, and no system. Each module is one step of a network or of its link.

padding.py, backbone.py, efficientnet.py, swin.py     pictures to features
dense.py, up_convolution.py, depthwise.py             linear, transposed and depthwise convolutions, made fast
klt.py, linear_path.py                                the linear code, alone and beside a network
symbol_layout.py, power.py                            features to symbols, and their power
receiver.py                                           received symbols to what a decoder reads
"""
