"""The page on which a person looks at a result and corrects it: `clipcls report`."""
