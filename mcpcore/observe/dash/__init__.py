"""The live page: watch a cluster, draw it, and push what changed to browsers."""
