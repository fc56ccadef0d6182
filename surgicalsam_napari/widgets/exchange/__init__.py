"""The *Export / Import* tab."""
