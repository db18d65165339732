"""The Hugging Face Hub as the lab's infrastructure.

papers/ finds and reads them; jobs/ launches, lists, ends and adds up; data/ shares what `prepare` made; results/
publishes and pulls trials. All of them call the Hub through `connection`, commit through `commits`, and look for
tokens with `leaks` before anything is shown or sent.
"""
