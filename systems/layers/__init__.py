"""Parts of networks that several systems share. There is no system here."""
