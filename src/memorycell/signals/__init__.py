"""Shared by speech, handwriting and drawing: feature codecs, CTC, datasets of labelled examples."""
