"""What acts: the engine, its drivers, targets and clocks. What decides lies one level up."""
