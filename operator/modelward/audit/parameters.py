"""The one set of parameters that counters are encrypted under: BFV, exact, 128 bits, 4,096 cells of almost 40 bits."""

from typing import Final

from modelward.encrypted.parameters import Parameters
from modelward.encrypted.primes import coefficient_primes, plain_modulus
from modelward.encrypted.serial import Ring

PARAMETERS: Final = Parameters("BFV", 4096, (36, 36, 37))
# 109 bits, as the standard's table allows. Who adds has no SEAL.
RING: Final = Ring(
    PARAMETERS,
    coefficient_primes(PARAMETERS.poly_modulus_degree, PARAMETERS.coeff_modulus_bits),
    plain_modulus(PARAMETERS.poly_modulus_degree),
)
LEVEL: Final = RING.top

# No cell can reach half the plain modulus (2^39), and no sum the end of its noise budget: a fresh ciphertext has 25
# bits of it and a sum of 2^16 loses 16 at the most.
MAX_ROWS: Final = 1 << 20
"""Rows that one window counts."""
MAX_WINDOWS: Final = 1 << 16
"""Windows that one aggregate sums."""
LEAST_NOISE_BUDGET: Final = 4
"""Bits that a sum must have left: one with less was not made of so few fresh ciphertexts."""
