"""N-way K-shot classification of images, the tasks of the literature, by the library's learners."""
