"""The prompt enhancer: a mixture-of-experts language model that turns short prompts into full captions, and Lynx."""
