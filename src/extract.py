"""LoRA factors of a full fine-tune: ``python -m src.extract backbone=… tuned=… out=…``."""

from esmerge.cli.extract import main

if __name__ == "__main__":
    main()
