"""Fine-tuning under a plan: a `ContextPlan` executed by a transformers model, and what it is trained on."""
