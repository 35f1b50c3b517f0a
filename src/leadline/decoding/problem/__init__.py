"""The step protocol: problems, their states and scores, and checked and counted calls of a step.

Every other folder of this package stands on this one.
"""
