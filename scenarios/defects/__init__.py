"""Defects of the village's predecessor, as mutants: each the village's own policy with that one defect put back.

A module is named after its row in the list of known defects. Beside each mutant stand what the predecessor did, the
check that fails. `DEFECTS` names them for the hunter.
"""
