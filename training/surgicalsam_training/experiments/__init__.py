"""The experiments of the paper (Yue et al., AAAI 2024) on any data, and small versions on the phantom."""
