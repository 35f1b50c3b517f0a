"""Help texts of the commands: a summary, what the command does, and an example.

The parser needs the summaries before it imports a command, so the texts are not in the commands'
docstrings. The docstrings describe the options.
"""

LEADLINE = """Measure deep networks: representations, gradients and decoders.

Which command answers my question?

- Is my representation better than the raw data? `represent`, then `encode`
- Where does the gradient of my recurrent network vanish or explode? `gradients`
- Was the decoder's answer the most likely one? `decode`
- Do twenty statements of a deep-learning course hold? `worksheet`
- Can I try it with sliders? `explore`
"""

REPRESENT = """Pretrain autoencoders on your data, and compare their codes with the raw data.

The command writes a page, the best encoder, the numbers, and a Python snippet that uses the
encoder. Held-out labels choose the encoder. If the command is interrupted, run it again: it
resumes.

Example: `leadline represent rows.csv --labels class --out report`
"""

ENCODE = """Compute the codes of rows with a saved encoder.

A .npy file is read block by block, so rows and codes may be larger than memory. Other formats are
loaded as a whole.

Example: `leadline encode report/encoder.safetensors rows.npy --out codes.npy`
"""

GRADIENTS = """Show where the gradient of your recurrent model vanishes or explodes.

FACTORY is a function of yours that returns a model, a batch, and a loss. The loss is a function of
model and batch. It returns a scalar, or one term for each timestep: shape (T,) or (batch, T). With
terms, the command also shows how far each term reaches back.

Example: `leadline gradients my_model:factory --data batch.npz`
"""

DECODE = """Continue prompts by beam search, and check whether a better answer exists.

Each answer has a certificate: either it is proved optimal, or a gap bounds how much better another
answer could be. With --input and --output, an interrupted run resumes if you run the command again.

Example: `leadline decode --model my_model --prompt "the value of the" --width 3 --audit`
"""

WORKSHEET = """Measure twenty statements of a deep-learning course, and write a page about them.

Each answer is saved as soon as it is measured. If the command is interrupted, run it again: it
measures only what is missing.

Example: `leadline worksheet --only rnn,beam --out report`
"""

EXPLORE = """Open interactive pages for representations, gradients and decoders in a browser.

The command serves the pages on this machine until you press Ctrl-C. The printed address contains a
token, which is new at every start. Requests without the token are refused.

Example: `leadline explore gradients`
"""
