"""Numbers of the authors' own code, and the inputs that it was given; README.md says what is here."""
