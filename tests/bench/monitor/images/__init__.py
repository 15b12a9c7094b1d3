"""Real images through a real model: what the monitor makes of corruptions, camera faults and renamed classes whose
harm, cause and shape were written down before.
"""
