"""modelward makes machine-learning models that serve in Kubernetes private and secure by design."""

__version__ = "0.1.0"
