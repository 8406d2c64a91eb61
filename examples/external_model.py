"""A model that knows nothing of this harness: any language, any environment, crystals as extended XYZ.

It says "model ready" once its weights are loaded, so that `bench sample-external` starts the clock there.
"""

import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--num-samples", type=int, required=True)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", required=True)
options = parser.parse_args()

random.seed(options.seed)  # here a model would load its weights
print("model ready")  # noqa: T201

with open(options.out, "w", encoding="utf-8") as file:
    for _ in range(options.num_samples):
        a = random.uniform(3.6, 4.4)
        file.write(f'5\nLattice="{a} 0 0 0 {a} 0 0 0 {a}" Properties=species:S:1:pos:R:3 pbc="T T T"\n')
        file.write(
            f"{random.choice(['Ca', 'Sr', 'Ba'])} 0 0 0\n{random.choice(['Ti', 'Zr'])} {a / 2} {a / 2} {a / 2}\n"
        )
        file.write(f"O {a / 2} {a / 2} 0\nO {a / 2} 0 {a / 2}\nO 0 {a / 2} {a / 2}\n")
