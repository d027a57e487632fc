// Stands for the bundle in the offline plan, so that it needs no build.
