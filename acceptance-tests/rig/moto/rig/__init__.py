"""moto as a server of its own, its gaps closed, with faults on demand."""
