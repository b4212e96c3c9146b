"""Network parts that several systems share. No system stands here."""
