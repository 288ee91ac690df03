"""Models: an encoder, a recurrent stack and a head. Here what several applications share."""
