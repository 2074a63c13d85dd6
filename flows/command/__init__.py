"""The commands of `regionflow`, a module for each; heavy imports wait until one is called."""
