"""What the networks are: Depth Anything V2 and FoundationStereo, and how their weights are loaded."""
