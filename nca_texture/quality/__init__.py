"""How good a texture is, what a model does with time, and why it is bad when it is.

measures   distances of a picture to its target       variety    what is new, what is copied
rollout    pictures on the way, recovery, cost        diagnosis  faults, and which setting to change
scorecard  all of it as one result
"""
