"""The virtual board, the radio medium and the wearer: what stands for the hardware where there is none."""
