"""The digital link: source codecs, channel codes with QAM, and the limits that no link can cross."""
