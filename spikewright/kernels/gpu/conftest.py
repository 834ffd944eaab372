"""These modules hold no examples to test, and most of them cannot be imported without Triton."""

collect_ignore_glob = ["*.py"]
