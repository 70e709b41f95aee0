def test_x(dense_speech, small_speech): print(sorted(dense_speech.files), small_speech.cost)
