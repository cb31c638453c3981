"""What is made of many images at once: measurements, comparisons, figures."""
