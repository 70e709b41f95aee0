"""Most parts are tested through what is put together of them: the graphs of translation and of speech."""
