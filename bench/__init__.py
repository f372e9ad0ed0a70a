"""The benchmark of Gatehouse beside its peers: one command, `bench/run`; the README here says how to read it.

Standard library and two C programs only, so that it measures any gateway without installing one. It imports nothing
from the four packages: Gatehouse is measured from outside, like every other target.
"""
