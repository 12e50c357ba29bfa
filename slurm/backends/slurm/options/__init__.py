"""What a profile may say and how it is read: YAML as text, the forms of values, the options and variables of sbatch."""
