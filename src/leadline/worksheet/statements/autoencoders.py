"""Section 1, autoencoders: vanilla, denoising and masked, judged by probes on frozen encoders."""

from leadline.worksheet._criterion import NEVER, Above, AllOf, AnyOf, Below, Criterion, Holds
from leadline.worksheet._statement import Statement

IMAGES = ("photographs", "glyphs")

STATEMENTS = (
    Statement(
        id="ae.a",
        number="1a",
        title="Watching the reconstruction error",
        claim="Watching reconstruction error on held-out data is pointless, since only downstream "
        "accuracy matters in the end.",
        course="false",
        agrees="refuted",
        measurement="A 64-256-16 autoencoder overfits 100 digits. Test error at the last epoch "
        "against that at the validation minimum; and a broken run (targets shuffled between "
        "samples) against a healthy one, by training loss and by validation loss.",
        criterion=Criterion(
            AllOf(
                Above("test_error_last_minus_best"),
                Holds("training_loss_is_blind"),
                Holds("validation_loss_tells"),
            ),
            met="refuted",
        ),
        why="Held-out reconstruction error is the only signal during pretraining that needs no "
        "labels. It says when to stop, and it tells a broken run from a healthy one.",
        condition="With data in plenty and a small network nothing overfits, and early stopping "
        "changes little.",
        measure="leadline.worksheet.measurements.autoencoders.watching:held_out_error_is_watched",
    ),
    Statement(
        id="ae.b",
        number="1b",
        title="Lower loss, better representation?",
        claim="Of two autoencoders on the same data, the one with lower validation loss is the "
        "better representation.",
        course="not always",
        agrees="refuted",
        measurement="Clean validation loss and probe accuracy of registered pairs: vanilla against "
        "denoising at equal width, narrow against overcomplete, on the digits and on high-variance "
        "synthetic vectors. Beside it, how far the orders by loss and by probe agree over a grid "
        "of widths, within and across kinds.",
        criterion=Criterion(
            AnyOf(
                *(
                    AllOf(Below(f"loss_{pair}_on_{data}"), Below(f"accuracy_{pair}_on_{data}"))
                    for pair in ("vanilla_minus_denoising", "wide_minus_narrow")
                    for data in ("digits", "vectors")
                )
            ),
            met="refuted",
            against=NEVER,
        ),
        why="Reconstruction rewards whatever carries variance, and what the labels depend on may "
        "be something else.",
        condition="Within one kind of autoencoder the orders agree more often than across kinds.",
        measure="leadline.worksheet.measurements.autoencoders.loss_order:loss_against_probe",
    ),
    Statement(
        id="ae.c",
        number="1c",
        title="The decoder is thrown away",
        claim="After pretraining the decoder is not used downstream.",
        course="true",
        agrees="supported",
        measurement="The exported encoder is searched for decoder tensors, and downstream "
        "predictions are compared bit for bit with the decoder randomised and deleted.",
        criterion=Criterion(
            AllOf(Holds("no_decoder_tensor"), Holds("predictions_identical")), met="supported"
        ),
        why="The probe reads the code, and the code does not depend on the decoder.",
        condition="Generation and anomaly scores by reconstruction do need the decoder.",
        measure="leadline.worksheet.measurements.autoencoders.decoder:decoder_is_thrown_away",
    ),
    Statement(
        id="ae.d",
        number="1d",
        title="Worse than the raw input",
        claim="The representation can be worse than the raw input.",
        course="true",
        agrees="supported",
        measurement="Probes at one label count: a too narrow bottleneck against raw input and "
        "against the same network with a wide one; the same architecture pretrained on unlike data "
        "against its own. Not losing means to stay within one point.",
        criterion=Criterion(
            AllOf(
                Below("narrow_minus_raw"),
                Above("wide_minus_raw", -1.0),
                Below("unlike_minus_raw"),
                Above("own_minus_raw", -1.0),
            ),
            met="supported",
        ),
        why="An encoder is a bottleneck of width or of habit: what it drops, no probe can bring "
        "back.",
        condition="With a wide code and data of its own an encoder seldom loses.",
        measure="leadline.worksheet.measurements.autoencoders.worse_than_raw:what_an_encoder_drops",
    ),
    Statement(
        id="ae.e",
        number="1e",
        title="Learned on other data",
        claim="A representation learned on quite different data can still help.",
        course="true",
        agrees="supported",
        measurement="Pretraining on rendered letters (no digits and none of their look-alikes), "
        "probing on handwritten digits at one label per class, against raw pixels and the "
        "untrained encoder.",
        criterion=Criterion(
            AllOf(Above("letters_minus_raw"), Above("letters_minus_untrained")), met="supported"
        ),
        why="Strokes, edges and small shifts are common to all writing; what is common transfers.",
        condition="Where raw input serves a linear probe badly: over raw pixels of 8 x 8 there is "
        "little to gain, over an untrained encoder there is more. Data that share no structure "
        "with the task do not help, and can hurt.",
        measure="leadline.worksheet.measurements.autoencoders.other_data:letters_help_digits",
    ),
    Statement(
        id="ae.f",
        number="1f",
        title="Few labels, large gain",
        claim="The gain over raw input is largest when labels are few.",
        course="true",
        agrees="supported",
        measurement="A denoising and a vanilla autoencoder are pretrained without labels for each "
        "seed; frozen, they are probed with 10 to 300 labels beside raw pixels, PCA and the "
        "untrained encoder, on nested label subsets and a test set that nothing else has seen.",
        criterion=Criterion(
            AllOf(Above("gain_at_fewest"), Above("gain_at_fewest_minus_most")), met="supported"
        ),
        why="Pretraining learns from unlabelled rows what the inputs have in common, so that a few "
        "labels go further. With many labels a probe learns the same from the raw input.",
        condition="With few unlabelled rows, or labels in plenty, the gain is small at every "
        "budget.",
        measure="leadline.worksheet.measurements.autoencoders.few_labels:gain_with_few_labels",
    ),
    Statement(
        id="ae.g",
        number="1g",
        title="Masking patches or pixels",
        claim="On images, masking patches is often more effective than masking single pixels.",
        course="true, often",
        agrees="supported",
        measurement="On crops of photographs and on glyphs of at least 28 pixels, zero-filled, at "
        "equal ratio and compute: the error of copying the nearest visible pixel, and probe "
        "accuracy.",
        criterion=Criterion(
            AllOf(
                *(
                    Above(f"{part}_on_{data}")
                    for part in ("copying_is_harder", "patch_minus_pixel")
                    for data in IMAGES
                )
            ),
            met="supported",
            against=AllOf(*(Below(f"patch_minus_pixel_on_{data}") for data in IMAGES)),
        ),
        why="A single missing pixel can be copied from its neighbours; a missing patch has to be "
        "understood.",
        condition="With long training on large images of the world. On small ones a patch hides "
        "whole strokes, and as many single pixels win; but not where they are hidden so often that "
        "a visible one is as far as under patches.",
        measure="leadline.worksheet.measurements.autoencoders.patches:patches_against_pixels",
    ),
    Statement(
        id="ae.h",
        number="1h",
        title="Corruption is augmentation",
        claim="Denoising and masked autoencoders are vanilla ones with data augmentation.",
        course="true",
        agrees="supported",
        measurement="In the overfitting regime of 1a, for noise and for masking: clean test error "
        "at the last epoch and accuracy lost under a corruption unseen in training (a fifth of the "
        "entries are from other rows), against vanilla; and bit-equality with vanilla training on "
        "the materialised (corrupted, clean) pairs.",
        criterion=Criterion(
            AllOf(
                Holds("identical_to_augmented_vanilla"),
                Below("denoising_test_error_minus_vanilla"),
                Below("masked_test_error_minus_vanilla"),
                Below("denoising_accuracy_lost_minus_vanilla"),
                Below("masked_accuracy_lost_minus_vanilla"),
            ),
            met="supported",
        ),
        why="The loop is the same and only the input differs from the target; like other "
        "augmentation it regularises.",
        condition="Where the vanilla autoencoder overfits and the corruption is weak; strong noise "
        "or masking costs clean reconstruction. A masked transformer that drops tokens also "
        "changes the computation, not only the data.",
        measure="leadline.worksheet.measurements.autoencoders.augmentation:corruption_is_augmentation",
    ),
    Statement(
        id="ae.i",
        number="1i",
        title="Noise when it is used?",
        claim="What was trained with noise or masking should be given noise or masking when it is "
        "used.",
        course="false",
        agrees="refuted",
        measurement="A 2 x 2 design: corruption when the probe is fitted, corruption at inference, "
        "for noise and for masking.",
        criterion=Criterion(
            AllOf(Above("clean_minus_noisy"), Above("clean_minus_masked")), met="refuted"
        ),
        why="Corruption is a means of training. At inference it only removes information.",
        condition="Corruption while fitting the probe alone is augmentation, and may help.",
        measure="leadline.worksheet.measurements.autoencoders.inference:noise_when_used",
    ),
    Statement(
        id="ae.j",
        number="1j",
        title="Always a smaller code",
        claim="Autoencoders always encode into a fixed, smaller number of dimensions.",
        course="false",
        agrees="refuted",
        measurement="An overcomplete denoising autoencoder (256 units for 64 inputs) against a "
        "narrow one; a transformer encoder whose representation is one vector per token and grows "
        "with the image.",
        criterion=Criterion(
            AllOf(Above("wide_minus_narrow", -1.0), Holds("grows_with_the_image")), met="refuted"
        ),
        why="A code can be kept from copying by noise, masking or sparsity as well as by its "
        "width.",
        condition="Without corruption or another constraint, a wide code may learn to copy.",
        measure="leadline.worksheet.measurements.autoencoders.overcomplete:codes_need_not_be_small",
    ),
)
