"""The Hugging Face Hub as the lab's infrastructure: papers, jobs, prepared data, shared results."""
