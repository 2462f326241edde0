"""`python -m experiments`: the programs, as `g-rmi` starts them."""

from experiments.main import console

if __name__ == "__main__":
    console()
