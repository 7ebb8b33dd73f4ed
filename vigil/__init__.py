"""The front door: the command line. Parses, calls a verb, prints. Imports other rooms only inside the verb that needs them."""
