"""All that touches llama_cpp or C: the loaded library, its devices, the plan API, models, contexts."""
