"""From what people have to tensors and back."""
