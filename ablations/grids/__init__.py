"""One file is one experiment; its name is the argument of `cscdarts ablate`."""
