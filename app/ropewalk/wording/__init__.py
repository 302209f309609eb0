"""How plans, quantities and errors are put into words, alike on the command line and on screen."""
