"""The *Correct* tab: its sections, tools, keys and layers."""
