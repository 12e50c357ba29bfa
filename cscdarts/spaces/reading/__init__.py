"""From the text that other repositories, papers, notebooks and logs hold to a genotype. Nothing is ever executed. No
torch."""
