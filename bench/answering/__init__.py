"""The in-process world of ``bench_answer``."""
