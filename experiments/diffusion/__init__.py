"""The experiment on diffusion: which options train the best model, and what federation costs against one place."""
